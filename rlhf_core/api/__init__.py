"""HTTP for chat applications, beside the app: what people say comes in, rewards go out, everybody sees and erases their own.

A door: requests are checked here and answered by :mod:`rlhf_core.services.collecting`.
"""
