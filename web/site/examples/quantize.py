import random
from array import array

import ruvq

# a matrix of normal weights, quantized to every format of ruvq's own
rows, width = 64, 512
random.seed(1)
weights = array("f", [random.gauss(0, 1) for _ in range(rows * width)])
original = memoryview(weights).cast("B").cast("f", (rows, width))

print("format      bits   SNR, dB")
for name in ("pi-t3", "pi-q3", "pi-t2", "pi-q2", "ternary"):
    quantized = ruvq.quantize(original, name)
    error = ruvq.compare(original, ruvq.dequantize(quantized))
    print(f"{name:10} {quantized.bits_per_weight:5.2f} {error.snr_db:9.2f}")
