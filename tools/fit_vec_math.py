# SPDX-License-Identifier: MIT
"""Fits the polynomials of src/kernels/x86/vec_math.h and prints them with their errors.

Each is the near-minimax interpolant at Chebyshev nodes in 40 digits, improved by Remez exchange on
the relative error, coefficients then rounded to f32. Needs mpmath and numpy.
"""
import mpmath as mp
import numpy as np

mp.mp.dps = 40


def remez(f, w, lo, hi, degree, rounds=12):
    """Polynomial p minimising max |w (f - p)| on [lo, hi]; returns coefficients, low order first."""
    n = degree + 2
    xs = [(lo + hi) / 2 - (hi - lo) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    grid = np.linspace(0, 1, 3000)
    for _ in range(rounds):
        a = mp.matrix(n, n)
        b = mp.matrix(n, 1)
        for i, x in enumerate(xs):
            for j in range(degree + 1):
                a[i, j] = x**j
            a[i, degree + 1] = (-1) ** i / w(x)
            b[i] = f(x)
        sol = mp.lu_solve(a, b)
        c = [sol[j] for j in range(degree + 1)]
        err = [w(x) * (f(x) - mp.polyval(c[::-1], x)) for x in (lo + (hi - lo) * mp.mpf(g) for g in grid)]
        ext, start = [], 0
        for i in range(1, len(err) + 1):  # one extremum per run of equal sign
            if i == len(err) or mp.sign(err[i]) != mp.sign(err[start]):
                k = max(range(start, i), key=lambda q: abs(err[q]))
                ext.append(lo + (hi - lo) * mp.mpf(grid[k]))
                start = i
        if len(ext) < n:
            break
        xs = ext[:n]
    return c, max(abs(e) for e in err)


def show(name, f, w, lo, hi, degree):
    c, err = remez(f, w, mp.mpf(lo), mp.mpf(hi), degree)
    print(f"{name}: degree {degree}, error {mp.nstr(err, 3)}")
    print("   ", ", ".join(mp.nstr(x, 10) + "f" for x in c))


def erfcx(z):
    return mp.exp(z * z) * mp.erfc(z)


h = mp.log(2) / 2 * mp.mpf("1.0001")
show("exp: (e^r - 1 - r) / r^2", lambda r: (mp.exp(r) - 1 - r) / r**2 if abs(r) > 1e-9 else mp.mpf(1) / 2 + r / 6,
     lambda r: r * r * mp.exp(-r) + mp.mpf("1e-12"), -h, h, 4)
g = mp.mpf("0.5001")
show("exp2: (2^f - 1) / f", lambda f: (mp.mpf(2) ** f - 1) / f if abs(f) > 1e-12 else mp.log(2),
     lambda f: abs(f) * mp.mpf(2) ** (-f) + mp.mpf("1e-12"), -g, g, 4)
show("exp2: (2^f - 1) / f", lambda f: (mp.mpf(2) ** f - 1) / f if abs(f) > 1e-12 else mp.log(2),
     lambda f: abs(f) * mp.mpf(2) ** (-f) + mp.mpf("1e-12"), -g, g, 5)
for d in (3, 4):
    show("exp2 of 8 bits: 2^f, 0 <= f <= 1", lambda f: mp.mpf(2) ** f, lambda f: mp.mpf(2) ** (-f), 0, 1, d)
for d in (5, 6):
    show("erf(x)/x in x^2, |x| <= 1", lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) if s > 0 else 2 / mp.sqrt(mp.pi),
         lambda s: 1 / (mp.erf(mp.sqrt(s)) / mp.sqrt(s)) if s > 0 else mp.mpf(1), 0, 1, d)
for d in (3, 4):
    show("(tanh(x)/x - 1)/x^2 in x^2, |x| <= 0.625",
         lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s if s > 1e-12 else -mp.mpf(1) / 3,
         lambda s: s + mp.mpf("1e-12"), 0, mp.mpf("0.390625"), d)
for p in ("0.4", "0.5", "0.6"):
    pp = mp.mpf(p)
    for d in (7, 8, 9):
        show(f"erfcx(z)/t, t = 1/(1 + {p} z)", lambda t: erfcx((1 / t - 1) / pp) / t,
             lambda t: t / erfcx((1 / t - 1) / pp), 1 / (1 + 11 * pp), 1, d)


def segments(f, width, n, degree):
    """f near the multiples k * width, 0 <= k < n: one polynomial each in x - k * width, the last one
    the constant that f goes to. Prints table[power][k] and the largest absolute error."""
    w, rows, worst = mp.mpf(width), [], mp.mpf(0)
    for k in range(n - 1):
        c, err = remez(lambda d, k=k: f(k * w + d), lambda d: mp.mpf(1), -w / 2, w / 2, degree)
        rows.append([np.float32(float(a) if abs(a) > 1e-20 else 0) for a in c])
        worst = max(worst, err)
    rows.append([np.float32(0.5)] + [np.float32(0)] * degree)
    last = mp.mpf("0.5") - f((n - 1) * w - w / 2)
    print(f"segments of {width}: degree {degree}, error {mp.nstr(worst, 3)}, {mp.nstr(last, 3)} where the last begins")
    for p in range(degree + 1):
        print("    {" + ", ".join(f"{r[p]:.9g}f" if r[p] % 1 else f"{r[p]:.0f}" for r in rows) + "},")


segments(lambda x: mp.erf(x / mp.sqrt(2)) / 2, "0.375", 16, 5)
