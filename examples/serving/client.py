"""A client that somebody else wrote: `python client.py build/digits.npy [HOST:PORT]`."""

import sys

import numpy as np
import tritonclient.grpc as protocol

images = np.load(sys.argv[1])[:32]
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8081"
with protocol.InferenceServerClient(address) as client:
    meta = client.get_model_metadata("digits")
    tensor = protocol.InferInput(meta.inputs[0].name, list(images.shape), meta.inputs[0].datatype)
    tensor.set_data_from_numpy(images)
    reply = client.infer("digits", [tensor])
print(reply.as_numpy(meta.outputs[0].name).argmax(axis=1))
