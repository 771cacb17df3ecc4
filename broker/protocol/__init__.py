"""Sans-IO parts of the Centrifuge client protocol: no await, no clock."""
