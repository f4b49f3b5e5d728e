"""Floor 0: values, ports, the reduction tree, numerics, errors, the file format."""
