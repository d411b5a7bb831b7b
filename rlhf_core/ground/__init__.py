"""Ground floor: records, configs, metric names, settings, errors. Standard library, pydantic, and psutil for one question
(is this process still the same one?) that snapshots, checkpoints and the supervisor all ask.
"""
