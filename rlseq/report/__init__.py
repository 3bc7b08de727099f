"""Reports: console, log, TensorBoard, plots, tables. They read results and decide nothing."""
