# KD with hand-tuned schedules, a control without pathways: the weight of KD rises over the first tenth of the training and
# falls over the last quarter. The second hook is for the student's cross-entropy, whose weight is constant by default.
_base_ = './kd.py'
custom_hooks = [
    dict(type='mmrazor.LossScheduleHook', warm_up=0.1, decay=0.25),
    dict(type='mmrazor.LossScheduleHook', of='student', warm_up=0.0, decay=0.0)
]
