// Inference through XRT's C++ API: a device image and packed inputs in, packed outputs out.
//
// The same program runs on a card and on the kernel's RTL behind XRT's hardware emulation; which one
// it is, XRT decides by its environment. See README.md for how the files come about.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

namespace {

// The kernel's arguments, in order.
enum Argument { IMAGE, INPUT, OUTPUT, STATISTICS, IMAGE_BEATS, INPUT_BEATS, SAMPLES, COMMAND };

constexpr uint32_t LOAD_AND_RUN = 3;
constexpr size_t STATISTICS_BYTES = 64;
constexpr size_t PAGE = 4096;

std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

// A buffer of whole pages, in the memory that the argument reaches.
xrt::bo buffer(const xrt::device& device, const xrt::kernel& kernel, Argument argument, size_t size) {
    const size_t pages = (size + PAGE - 1) / PAGE * PAGE;
    const auto group = static_cast<xrt::memory_group>(kernel.group_id(argument));
    return {device, pages, xrt::bo::flags::normal, group};
}

void fill(xrt::bo& buffer, const std::vector<char>& data) {
    std::copy(data.begin(), data.end(), buffer.map<char*>());
    buffer.sync(XCL_BO_SYNC_BO_TO_DEVICE);
}

// Polls, because XRT's emulation driver counts its own waits in whole seconds.
void finish(const xrt::run& run) {
    for (;;) {
        const auto state = run.state();
        if (state == ERT_CMD_STATE_COMPLETED) return;
        if (state != ERT_CMD_STATE_NEW && state != ERT_CMD_STATE_QUEUED &&
            state != ERT_CMD_STATE_SUBMITTED && state != ERT_CMD_STATE_RUNNING)
            throw std::runtime_error("XRT reports that the run failed: state " +
                                     std::to_string(state));
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
}

void infer(char** arguments) {
    const std::string xclbin = arguments[1];
    const auto image = read_file(arguments[2]);
    const auto input = read_file(arguments[3]);
    const std::string output_path = arguments[4];
    const size_t input_bytes = std::stoul(arguments[5]);
    const size_t output_bytes = std::stoul(arguments[6]);
    const size_t bus_bytes = std::stoul(arguments[7]);
    if (input_bytes == 0 || bus_bytes == 0 || input.empty() || input.size() % input_bytes != 0)
        throw std::runtime_error(std::string(arguments[3]) + ": is not of whole samples of " +
                                 arguments[5] + " bytes");
    const size_t samples = input.size() / input_bytes;

    xrt::device device(0);
    const auto uuid = device.load_xclbin(xclbin);
    const xrt::kernel kernel(device, uuid, "trencadis:{trencadis_1}");

    auto images = buffer(device, kernel, IMAGE, image.size());
    auto inputs = buffer(device, kernel, INPUT, input.size());
    auto outputs = buffer(device, kernel, OUTPUT, samples * output_bytes);
    auto statistics = buffer(device, kernel, STATISTICS, STATISTICS_BYTES);
    fill(images, image);
    fill(inputs, input);

    xrt::run run(kernel);
    run.set_arg(IMAGE, images);
    run.set_arg(INPUT, inputs);
    run.set_arg(OUTPUT, outputs);
    run.set_arg(STATISTICS, statistics);
    run.set_arg(IMAGE_BEATS, static_cast<uint32_t>((image.size() + bus_bytes - 1) / bus_bytes));
    run.set_arg(INPUT_BEATS, static_cast<uint32_t>(input.size() / bus_bytes));
    run.set_arg(SAMPLES, static_cast<uint32_t>(samples));
    run.set_arg(COMMAND, LOAD_AND_RUN);
    run.start();
    finish(run);

    statistics.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
    const auto record = statistics.map<const uint32_t*>();
    if (record[1] != 0) throw std::runtime_error("the kernel reports status " + std::to_string(record[1]));
    outputs.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
    std::ofstream output(output_path, std::ios::binary);
    output.write(outputs.map<const char*>(), static_cast<std::streamsize>(samples * output_bytes));
    output.close();
    if (!output) throw std::runtime_error(output_path + ": cannot be written");
    std::printf("%zu samples in %u cycles\n", samples, record[2]);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 8) {
        std::fprintf(stderr,
                     "usage: %s XCLBIN IMAGE INPUT OUTPUT INPUT_BYTES OUTPUT_BYTES BUS_BYTES\n",
                     arguments[0]);
        return 2;
    }
    try {
        infer(arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", arguments[0], error.what());
        return 1;
    }
    return 0;
}
