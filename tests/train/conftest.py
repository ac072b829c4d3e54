"""Small tensors are worked on faster by one thread, above all beside other work."""

import torch

torch.set_num_threads(1)
