"""Bytes to params and back: routing, SigV4, checks and errors, all from botocore's service models.

Knows the models; must not know what a collaboration is, nor import another room.
"""
