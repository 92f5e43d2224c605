"""Networks: layers with masks, k-WTA, integers, and export."""
