# SPDX-License-Identifier: MIT
"""Which frames of a clip Qwen3-VL looks at, and the times written before them: exact integers and texts."""

from common import save_json

from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_utils import VideoMetadata

# total frames, frames per second of the clip, wanted per second, least, most
CLIPS = [
    (1, 24, 2, 4, 768), (2, 24, 2, 4, 768), (3, 30, 2, 4, 768), (4, 30, 2, 4, 768), (5, 30, 2, 4, 768),
    (7, 2, 2, 4, 768), (100, 25, 2, 4, 768), (100, 30, 2, 4, 768), (101, 29.97, 2, 4, 768),
    (299, 30000 / 1001, 2, 4, 768), (300, 30000 / 1001, 2, 4, 768), (1000, 24, 2, 4, 768),
    (1000, 23.976, 1, 4, 768), (1000, 60, 0.5, 4, 768), (250, 25, 4, 8, 768), (250, 25, 25, 4, 64),
    (9000, 29.97, 2, 4, 768), (11519, 30, 2, 4, 768), (11520, 30, 2, 4, 768), (11550, 30, 2, 4, 768),
    (90000, 30, 2, 4, 768), (10000, 25, 2, 4, 768), (600, 59.94, 3, 6, 31), (17, 10, 2, 4, 768),
    (50, 12.5, 0.1, 1, 768),
]


def main(out_dir):
    proc = Qwen3VLVideoProcessor()
    rows = []
    for total, fps, want, least, most in CLIPS:
        proc.min_frames, proc.max_frames = least, most
        meta = VideoMetadata(total_num_frames=total, fps=fps)
        index = proc.sample_frames(meta, fps=want).tolist()
        times = Qwen3VLProcessor._calculate_timestamps(None, list(index), fps, 2)
        rows.append(dict(total=total, fps=fps, want=want, least=least, most=most, indices=index,
                         times=[f"<{t:.1f} seconds>" for t in times]))
    save_json(f"{out_dir}/media/frames.json", dict(clips=rows))
