"""Writing models as ONNX files that end in keypoints."""
