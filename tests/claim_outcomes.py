"""Outcomes of claims with made-up numbers, for tests of the results page and its figures."""


def run(seed, top1, train=0.01, **more):
    return {"seed": seed, "top1_error": top1, "top5_error": top1 / 5, "loss": 4 * top1, "train_error": train,
            "train_loss": 0.05, "value": top1, "more": more}


def variant(name, errors, rate=0.01, *, interior=True):
    tuning = [{"rate": tried, "errors": [0.25, 0.75] if tried == rate else [0.5, 0.75]}
              for tried in (0.003, 0.01, 0.03)]
    return {"name": name, "settings": ["arch.dropout=0"] if name != "dropout" else [], "images": 1000, "views": 1,
            "averaged": 1, "tuned_by": "top-1 error", "rate": rate, "tuning": tuning, "interior": interior,
            "runs": [run(seed, error) for seed, error in enumerate(errors)]}


def comparison(**changes):
    return {"name": "dropout against no dropout", "variant": "dropout", "reference": "no dropout",
            "quantity": "top-1 error", "unit": "points", "paper": None, "words": "", "is_bound": False,
            "source": "the paper", "least": None, "sign": -1, "values": [-3.0, -4.0, -2.0],
            "mean": -3.0, "low": -5.48, "high": -0.52, "low_all": -5.48, "high_all": -0.52, "p": 0.035, "p_holm": 0.035,
            "minimum_detectable": 3.1, "verdict": "supported", "reason": "the difference is significant", **changes}


def outcome(claim="dropout", **changes):
    return {"claim": claim, "section": "§4.2", "statement": "without dropout the network overfits",
            "design": "two networks on 1,000 images", "against": "dropout leaves the error as it is",
            "data": "imagenette", "side": 64, "images": [1000, 3925], "epochs": 150, "seeds": [0, 1, 2],
            "tuning_seeds": [100, 101], "tuned_by": "top-1 error on the tuning split", "value_name": "top-1 error",
            "fractions": ["top-1 error"], "departures": [], "fingerprint": "f",
            "date": "2026-11-29",
            "variants": [variant("no dropout", (0.42, 0.44, 0.43)), variant("dropout", (0.39, 0.40, 0.41))],
            "comparisons": [comparison()], "notes": [], "quick": False,
            "command": f"alexnet reproduce {claim} --data imagenette", "machine": "x86_64 CPU, 2 cores, torch 2.13.0",
            "precision": "bf16", **changes}
