# SPDX-License-Identifier: MIT
"""Measure mini-draw as a user has it: drawn by limn itself (--limn PROGRAM) or by diffusers, with the steps and
guidance that its limn.json recommends, noise that training never used. Prints one table; `make models-eval` runs it.

    python eval_draw.py --model models/mini-draw --judge RUN/judge.pt --sprites SPRITES [--limn build/limn]

concept      the judge (train_classifier.py) names the thing of the prompt first: every name and synonym with its
             article, then longer wordings, so many different prompts as --concepts says
new words    the same for wordings that no caption of the training had ("draw me a dog, please")
background   the border's median colour is nearest to the colour that was asked for
count        "two NAMES" / "three NAMES": so many separate shapes, each named right (a majority at three)
left/right   "a A on the left and a B on the right": the judge names A in the left half and B in the right
psnr         dB between what is drawn and the scene that was asked for, painted: by kind of scene and by background
The same measures are taken on painted truth first ("ruler"), which shows what a perfect model would score.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from art import COLOURS, SIZE, Painter, article, load_concepts
from draw_pairs import scenes_of
from train_classifier import Judge, shrink


def load_judge(path):
    saved = torch.load(path)
    judge = Judge(len(saved["names"])).eval()
    judge.load_state_dict(saved["judge"])
    return judge, saved["names"], saved["held_out"]


@torch.inference_mode()
def named(judge, pictures):
    return judge(shrink(pictures)).argmax(1)


def window(picture, cx, cy, side):
    """A square of the picture, reflected where it leaves it, at the judge's size. picture [3, h, w]."""
    half = side // 2
    padded = F.pad(picture[None], (half,) * 4, mode="replicate")
    x, y = int(cx), int(cy)
    return F.interpolate(padded[:, :, y:y + side, x:x + side], (64, 64), mode="bilinear", antialias=True)


@torch.inference_mode()
def halves(judge, picture):
    left = judge(window(picture, SIZE * .26, SIZE / 2, 64)).argmax(1)
    right = judge(window(picture, SIZE * .74, SIZE / 2, 64)).argmax(1)
    return int(left), int(right)


def border_colour(picture):
    rim = torch.cat([picture[:, :3].flatten(1), picture[:, -3:].flatten(1),
                     picture[:, :, :3].flatten(1), picture[:, :, -3:].flatten(1)], 1)
    rgb = (rim.median(1).values.numpy() + 1) * 127.5
    return min(COLOURS, key=lambda c: float(np.square(rgb - np.array(COLOURS[c])).sum()))


@torch.inference_mode()
def counted(judge, picture):
    """How many separate shapes stand in a row: runs of columns that differ from the background."""
    rim = torch.cat([picture[:, :2].flatten(1), picture[:, -2:].flatten(1)], 1).median(1).values
    mask = (picture - rim[:, None, None]).abs().amax(0) > .25
    columns = mask.sum(0) > 1
    runs, begin = [], None
    for x, filled in enumerate(columns.tolist() + [False]):
        if filled and begin is None:
            begin = x
        if not filled and begin is not None:
            if x - begin >= 6:
                runs.append((begin, x))
            begin = None
    names = []
    for x0, x1 in runs:
        rows = mask[:, x0:x1].any(1).nonzero().flatten()
        side = int(max(x1 - x0, rows[-1] - rows[0] + 1) * 1.2) + 2
        names.append(int(judge(window(picture, (x0 + x1) / 2, float(rows[0] + rows[-1]) / 2, side)).argmax(1)))
    return runs, names


def count_right(judge, picture, wanted, index):
    runs, names = counted(judge, picture)
    return len(runs) == wanted and names.count(index) >= (2 if wanted > 1 else 1)


class Artist:
    """Draws through the stock pipeline, a batch at a time, with one generator per picture."""

    def __init__(self, path, steps, guidance):
        from diffusers import StableDiffusionPipeline
        self.pipe = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32)
        self.pipe.set_progress_bar_config(disable=True)
        self.steps, self.guidance = steps, guidance

    def draw(self, prompts, seeds):
        """[n, 3, 128, 128] in -1..1."""
        out = []
        for i in range(0, len(prompts), 16):
            generators = [torch.Generator().manual_seed(s) for s in seeds[i:i + 16]]
            images = self.pipe(prompts[i:i + 16], num_inference_steps=self.steps, guidance_scale=self.guidance,
                               generator=generators, output_type="np").images
            out.append(torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1)
        return torch.cat(out)


class LimnArtist:
    """Draws through limn's own command, one run of one thread per picture, as many at once as there are cores."""

    def __init__(self, program, path, steps, guidance, *options):
        self.command = [program, "draw", "--quiet", "-t", "1", "-m", path, "-s", str(steps), "-g", str(guidance), *options]

    def draw(self, prompts, seeds):
        with tempfile.TemporaryDirectory() as folder:
            def one(k, prompt, seed):
                file = os.path.join(folder, "%d.png" % k)
                subprocess.run([*self.command, "-r", str(seed), "-o", file, prompt], check=True, stdout=subprocess.DEVNULL)
                return torch.from_numpy(np.array(Image.open(file).convert("RGB")))

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                out = list(pool.map(one, range(len(prompts)), prompts, seeds))
        return torch.stack(out).permute(0, 3, 1, 2).float() / 127.5 - 1


def artist_of(args):
    """limn's program or diffusers, as --limn says; steps and guidance are the model's own where not given."""
    told = json.loads((Path(args.model) / "limn.json").read_text())
    steps = args.steps or told["steps"]
    guidance = told["cfg_scale"] if args.guidance is None else args.guidance
    return LimnArtist(args.limn, args.model, steps, guidance) if args.limn else Artist(args.model, steps, guidance)


def score(judge, task, pictures):
    """Share right of pictures for task rows (kind, wanted...)."""
    right = 0
    if task[0][0] in ("concept", "new words"):
        right = sum(int(n) == row[1] for part, rows in zip(pictures.split(64), chunks(task, 64))
                    for n, row in zip(named(judge, part), rows))
    else:
        for picture, row in zip(pictures, task):
            if row[0] == "background":
                right += border_colour(picture) == row[2]
            elif row[0] == "count":
                right += count_right(judge, picture, row[2], row[1])
            else:
                right += halves(judge, picture) == (row[1], row[2])
    return right / len(task)


def chunks(rows, n):
    return [rows[i:i + n] for i in range(0, len(rows), n)]


WORDINGS = ("a picture of {}", "a drawing of {}", "{} on a white background", "{}, 3d style")
NEW_WORDINGS = ("draw me {}, please", "an image of {}", "i would like {}", "there is {} here", "a nice icon: {}")


def wordings(concepts, rng, count):
    """(thing, prompt) for so many different prompts: names first, then synonyms, then longer wordings."""
    shuffled = lambda rows: [rows[int(k)] for k in rng.permutation(len(rows))]
    rows = shuffled([(c.index, article(c.name)) for c in concepts])
    rows += shuffled([(c.index, article(s)) for c in concepts for s in c.synonyms[1:]])
    rows += shuffled([(c.index, form.format(article(c.name))) for c in concepts for form in WORDINGS])
    return rows[:count]


def tasks(painter, concepts, rng, count, seeds, others):
    """{measure: (rows, prompts, truth pictures)}"""
    chosen = [int(i) for i in rng.permutation(len(concepts))[:count]]
    colours = [c for c in COLOURS if c != "white"]
    any_of = lambda seq: seq[int(rng.integers(len(seq)))]
    out = {}

    def add(measure, row, prompt, **scene):
        rows, prompts, truth = out.setdefault(measure, ([], [], []))
        rows.append((measure, *row))
        prompts.append(prompt)
        truth.append(painter.sample(rng, style="3d", **scene))

    for i, prompt in wordings(concepts, np.random.default_rng(818181), count):
        for _ in range(seeds):
            add("concept", (i,), prompt, kind="single", index=i, colour="white", size="normal")
    for k, i in enumerate(chosen[:others]):
        add("new words", (i,), NEW_WORDINGS[k % len(NEW_WORDINGS)].format(article(concepts[i].name)),
            kind="single", index=i, colour="white", size="normal")
    for i in chosen[:others]:
        colour = any_of(colours)
        add("background", (i, colour), "%s on a%s %s background" % (
            article(concepts[i].name), "n" if colour == "orange" else "", colour),
            kind="single", index=i, colour=colour, size="normal")
    for i in chosen[:others]:
        n = int(rng.integers(2, 4))
        add("count", (i, n), "%s %s" % (("two", "three")[n - 2], concepts[i].plural),
            kind=("two", "three")[n - 2], index=i, colour="white")
    for i, j in zip(chosen[:others], chosen[1:others + 1]):
        add("left/right", (i, j), "%s on the left and %s on the right" % (
            article(concepts[i].name), article(concepts[j].name)), kind="beside", index=i, other=j, colour="white")
    return out


def closeness(args, concepts, artist):
    """{group: (pictures, mean PSNR of drawn against painted)}"""
    painter = Painter(args.sprites, concepts, styles=("3d",), shake=0)
    scenes = list(scenes_of(painter, np.random.default_rng(606060), args.psnr))
    truth = torch.from_numpy(np.stack([s.picture for s in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
    drawn = artist.draw([s.caption for s in scenes], [70001 + k for k in range(len(scenes))])
    groups = {}
    for scene, error in zip(scenes, ((drawn - truth) / 2).square().mean((1, 2, 3)).tolist()):
        for group in ("all", scene.kind if scene.size == "normal" else scene.size, "on " + scene.colour):
            groups.setdefault(group, []).append(-10 * np.log10(error))
    return {group: (len(values), float(np.mean(values))) for group, values in sorted(groups.items())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--concepts", type=int, default=200, help="prompts for the first measure")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="in place of limn.json's")
    parser.add_argument("--guidance", type=float, help="in place of limn.json's")
    parser.add_argument("--limn", help="limn's program; without it diffusers draws")
    parser.add_argument("--others", type=int, default=60, help="prompts for each measure but the first")
    parser.add_argument("--psnr", type=int, default=128, help="scenes for this measure")
    parser.add_argument("--tiers", default="1")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    judge, names, held_out = load_judge(args.judge)
    concepts = load_concepts(tuple(int(t) for t in args.tiers.split(",")))
    if [c.name for c in concepts] != names:
        raise SystemExit("the judge was trained on other concepts")
    painter = Painter(args.sprites, concepts, shake=0)
    artist = artist_of(args)
    rng = np.random.default_rng(424242)
    table = {"judge, held-out scenes": held_out}
    print("judge on held-out scenes:", ", ".join("%s %.1f%%" % (s, 100 * r) for s, r in held_out.items()))
    print("%-12s %6s %8s %8s" % ("measure", "n", "ruler", "drawn"))
    for measure, (rows, prompts, scenes) in tasks(painter, concepts, rng, args.concepts, args.seeds, args.others).items():
        truth = torch.from_numpy(np.stack([s.picture for s in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
        begun = time.time()
        drawn = artist.draw(prompts, [90001 + k for k in range(len(prompts))])
        table[measure] = {"n": len(rows), "ruler": score(judge, rows, truth), "drawn": score(judge, rows, drawn),
                          "seconds per picture": (time.time() - begun) / len(rows)}
        print("%-12s %6d %7.1f%% %7.1f%%" % (measure, len(rows), 100 * table[measure]["ruler"],
                                             100 * table[measure]["drawn"]), flush=True)
    table["psnr"] = closeness(args, concepts, artist) if args.psnr else {}
    if table["psnr"]:
        print("psnr, dB (pictures): " + ", ".join("%s %.1f (%d)" % (k, v, n) for k, (n, v) in table["psnr"].items()))
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
