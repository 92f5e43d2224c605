"""Training by several processes: WASAP-SGD and its synchronous variant."""
