/* Inference through OpenCL, as XRT implements it: the same files as infer.cpp, the same results.
 *
 * gcc infer_cl.c -o infer_cl -lxilinxopencl
 */

#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS

#include <CL/cl.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOAD_AND_RUN = 3, BUFFERS = 4, STATISTICS_BYTES = 64, SMALLEST_BUFFER = 4096 };

static void check(cl_int error, const char* what) {
    if (error == CL_SUCCESS) return;
    fprintf(stderr, "infer_cl: %s failed: OpenCL error %d\n", what, error);
    exit(1);
}

static unsigned char* read_file(const char* path, size_t* size) {
    FILE* file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "infer_cl: %s: cannot be read\n", path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    unsigned char* data = malloc(*size + 1);
    if (!data || fread(data, 1, *size, file) != *size) {
        fprintf(stderr, "infer_cl: %s: cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    return data;
}

int main(int count, char** arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: %s XCLBIN IMAGE INPUT OUTPUT INPUT_BYTES OUTPUT_BYTES BUS_BYTES\n",
                arguments[0]);
        return 2;
    }
    size_t xclbin_size, image_size, input_size;
    const unsigned char* xclbin = read_file(arguments[1], &xclbin_size);
    unsigned char* image = read_file(arguments[2], &image_size);
    unsigned char* input = read_file(arguments[3], &input_size);
    const size_t samples = input_size / strtoul(arguments[5], NULL, 10);
    const size_t output_size = samples * strtoul(arguments[6], NULL, 10);
    const size_t bus_bytes = strtoul(arguments[7], NULL, 10);

    cl_platform_id platform;
    cl_device_id device;
    cl_int error, status;
    check(clGetPlatformIDs(1, &platform, NULL), "clGetPlatformIDs");
    check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ACCELERATOR, 1, &device, NULL), "clGetDeviceIDs");
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    check(error, "clCreateContext");
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &error);
    check(error, "clCreateCommandQueue");
    cl_program program =
        clCreateProgramWithBinary(context, 1, &device, &xclbin_size, &xclbin, &status, &error);
    check(error, "clCreateProgramWithBinary");
    cl_kernel kernel = clCreateKernel(program, "trencadis", &error);
    check(error, "clCreateKernel");

    const size_t sizes[BUFFERS] = {image_size, input_size, output_size, STATISTICS_BYTES};
    cl_mem buffers[BUFFERS];
    for (cl_uint i = 0; i < BUFFERS; ++i) {
        const size_t size = sizes[i] < SMALLEST_BUFFER ? SMALLEST_BUFFER : sizes[i];
        buffers[i] = clCreateBuffer(context, CL_MEM_READ_WRITE, size, NULL, &error);
        check(error, "clCreateBuffer");
        check(clSetKernelArg(kernel, i, sizeof(cl_mem), &buffers[i]), "clSetKernelArg");
    }
    const cl_uint scalars[] = {(cl_uint)((image_size + bus_bytes - 1) / bus_bytes),
                               (cl_uint)(input_size / bus_bytes), (cl_uint)samples, LOAD_AND_RUN};
    for (cl_uint i = 0; i < sizeof scalars / sizeof *scalars; ++i)
        check(clSetKernelArg(kernel, BUFFERS + i, sizeof(cl_uint), &scalars[i]), "clSetKernelArg");

    check(clEnqueueWriteBuffer(queue, buffers[0], CL_TRUE, 0, image_size, image, 0, NULL, NULL),
          "clEnqueueWriteBuffer");
    check(clEnqueueWriteBuffer(queue, buffers[1], CL_TRUE, 0, input_size, input, 0, NULL, NULL),
          "clEnqueueWriteBuffer");
    check(clEnqueueTask(queue, kernel, 0, NULL, NULL), "clEnqueueTask");
    check(clFinish(queue), "clFinish");

    cl_uint statistics[STATISTICS_BYTES / sizeof(cl_uint)];
    unsigned char* output = malloc(output_size);
    check(clEnqueueReadBuffer(queue, buffers[3], CL_TRUE, 0, STATISTICS_BYTES, statistics, 0, NULL,
                              NULL),
          "clEnqueueReadBuffer");
    check(clEnqueueReadBuffer(queue, buffers[2], CL_TRUE, 0, output_size, output, 0, NULL, NULL),
          "clEnqueueReadBuffer");
    if (statistics[1] != 0) {
        fprintf(stderr, "infer_cl: the kernel reports status %u\n", statistics[1]);
        return 1;
    }
    FILE* file = fopen(arguments[4], "wb");
    if (!file || fwrite(output, 1, output_size, file) != output_size || fclose(file)) {
        fprintf(stderr, "infer_cl: %s: cannot be written\n", arguments[4]);
        return 1;
    }
    printf("%zu samples in %u cycles\n", samples, statistics[2]);

    for (cl_uint i = 0; i < BUFFERS; ++i) clReleaseMemObject(buffers[i]);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    free(output);
    free(input);
    free(image);
    return 0;
}
