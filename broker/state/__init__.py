"""Sans-IO data structures: no await, no clock; time comes in as ``now``."""
