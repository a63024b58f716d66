"""What rests on Ray's inside, or on the wording of its errors; `make test-ray` runs its tests on the newest Ray.

texts   the facts in what Ray says of a death (pure)
inside  private calls of Ray, each with what is said where it is gone
"""
