"""Publishes from a file or a generator, for `rabbitray publish`.

feed  lines -> jobs
pump  jobs -> confirms, paced
"""
