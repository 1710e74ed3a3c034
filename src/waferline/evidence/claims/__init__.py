"""Claims: what somebody says a machine does, put to the laws of arithmetic, capacity and light, and to our intervals."""
