//! Block formats: the layout of each, with a plain reference quantize and dequantize.
