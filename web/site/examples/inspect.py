from pyodide.http import pyfetch

import ruvq

# the file is checked before anything in it is believed
data = await (await pyfetch(MODEL)).bytes()
with ruvq.GGUFFile.open(data) as file:
    report = file.verify()
    print(f"{file.nbytes:,} bytes, {report.tensor_digests} digests compared")
    print(f"problems: {len(report.problems)}\n")
    for tensor in file.tensors[:12]:
        shape = " x ".join(map(str, tensor.shape))
        print(f"{tensor.name:28} {tensor.format:6} {shape:12} {tensor.bits_per_weight:.2f} bits")
