"""L3 scheduling: the decision core, pure: queue, policies, admission, replay.
Plain values and times in, decisions out; knows no device, no thread and no clock.
"""
