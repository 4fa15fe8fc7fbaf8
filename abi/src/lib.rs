//! What the kernel also sees: keys, values, drop reasons, map specs
