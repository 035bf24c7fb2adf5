"""Training, inference and evaluation of RefSel and RefSTAR."""
