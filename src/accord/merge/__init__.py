"""Layer by layer, one model out of many: DARE-TIES streamed over safetensors files."""
