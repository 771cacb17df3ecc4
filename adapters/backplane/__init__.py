"""What the backplanes of several engines share."""
