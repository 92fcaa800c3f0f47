"""Runs another library in its own environment, one call at a time, for ``side_by_side.py``.

    PEER_PYTHON benchmarks/side_by_side_peers.py mmpose IMAGES.npz --checkpoint w48.pth
    PEER_PYTHON benchmarks/side_by_side_peers.py mediapipe IMAGES.npz

Answers "ready" when loaded; then each line on its input is one call, and is answered by a line of JSON with
``seconds``, ``cpu_seconds`` and ``keypoints``. Only the library that is asked for is imported.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def mmpose_call(image, boxes, options):
    """MMPose 0.29's own path: image and boxes in, keypoints out, with flip test, all boxes in one batch."""
    import mmpose
    import torch
    from mmcv import Config
    from mmpose.apis import inference_top_down_pose_model, init_pose_model
    from mmpose.datasets import DatasetInfo

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # else random weights make it slower than trained ones would
    folder = Path(mmpose.__file__).parent / ".mim/configs/wholebody/2d_kpt_sview_rgb_img/topdown_heatmap/halpe"
    config = Config.fromfile(str(folder / "hrnet_w48_halpe_384x288_dark_plus.py"))
    config.model.pretrained = None
    model = init_pose_model(config, options.checkpoint, device="cpu")
    info = DatasetInfo(config.data.test.dataset_info)
    bgr = np.ascontiguousarray(image[..., ::-1])
    people = [{"bbox": np.array([*box, 1.0])} for box in boxes]

    def call():
        found, _ = inference_top_down_pose_model(
            model, bgr, people, format="xyxy", dataset="TopDownHalpeDataset", dataset_info=info
        )
        return np.stack([person["keypoints"][:, :2] for person in found])

    return call


def mediapipe_call(image, _boxes, _options):
    """MediaPipe Pose, the full model, which looks for one person: a picture in, 33 body keypoints out."""
    import mediapipe

    pose = mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)

    def call():
        found = pose.process(image).pose_landmarks
        points = [] if found is None else [[point.x, point.y] for point in found.landmark]
        return np.array(points).reshape(1, -1, 2)

    return call


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("mmpose", "mediapipe"))
    parser.add_argument("images", help=".npz with image (H, W, 3) uint8 RGB and boxes (N, 4) xyxy")
    parser.add_argument("--checkpoint", help="weights for mmpose")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")  # libraries print to stdout what they like
    os.dup2(2, 1)
    data = np.load(options.images)
    call = {"mmpose": mmpose_call, "mediapipe": mediapipe_call}[options.library](data["image"], data["boxes"], options)
    call()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        keypoints = call()
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps({**took, "keypoints": keypoints.tolist()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
