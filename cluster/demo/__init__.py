"""The demo: birthday and anniversary greetings in two waves, on real parts.

jobs     1. makes the reference jobs
waves    2. publishes them while the pool runs
handler  3. works them
"""
