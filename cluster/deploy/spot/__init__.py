"""A machine that its cloud may take back: its node leaves Ray in order, with the notice's time for what it works on.

notice  waits for the notice, then drains the node; a systemd unit runs it
"""
