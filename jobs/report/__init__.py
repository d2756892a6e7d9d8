"""The HTML report and the depth map plot of a warehouse."""
