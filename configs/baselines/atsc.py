# ATSC (2024): SimKD's student, projector and loss, with a teacher that is trained too, near its initial weights, and a classifier
# that both share. Weight 1, and inner channels half of the teacher's: the release's. The pair sets the weight of the distance
# from the initial teacher.
_base_ = './simkd.py'
model = dict(type='ATSC', proximity=_base_.atsc_proximity)
