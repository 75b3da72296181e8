"""MovieLens-100k as a click log, read from the recbole package, whose wheel holds the data. numpy only.

A rating of 4 or 5 is a click. The last tenth of each user's ratings is held out (at least one), so the model ranks the
future of users whom it has seen; a history is the user's latest liked movies before the rating.
"""

import importlib.util
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsplit.demo.click_log import ClickLog
from recsplit.errors import InputError
from recsplit.zoo.ranker import DENSE, MOVIELENS

LIKED = 4
BASELINE = "share of likes of the movie (a baseline)"


def find() -> Path:
    """The folder ml-100k inside the installed recbole, found without importing it. Raises InputError where it is not there."""
    spec = importlib.util.find_spec("recbole")
    for parent in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(parent) / "dataset_example" / "ml-100k"
        if (folder / "ml-100k.inter").is_file():
            return folder
    raise InputError("MovieLens-100k comes inside the recbole package, which is not installed", hint="pip install --no-deps recbole")


def read(folder: Path) -> tuple[ClickLog, ClickLog]:
    """(training, held-out) impressions from ml-100k.inter, .user and .item in `folder`."""
    users, occupations = _users(folder / "ml-100k.user")
    movies = _movies(folder / "ml-100k.item")
    ratings = sorted(
        ((int(user), int(item), float(rating), float(time)) for user, item, rating, time in _rows(folder / "ml-100k.inter")),
        key=lambda row: row[3],
    )
    count = len(ratings)
    ids = np.array([row[:2] for row in ratings], dtype=np.int32)
    liked = np.array([row[2] >= LIKED for row in ratings], dtype=np.float32)
    dense = np.zeros((count, DENSE), dtype=np.float32)
    tags = np.zeros((count, MOVIELENS.tags_length), dtype=np.int32)
    history = np.zeros((count, MOVIELENS.history_length), dtype=np.int32)
    likes: defaultdict[int, list[int]] = defaultdict(list)
    seen: defaultdict[int, int] = defaultdict(int)
    for n, (user, item, rating, _) in enumerate(ratings):
        age, gender = users[user]
        year, genres = movies[item]
        dense[n] = (age - 33) / 12, gender, (year - 1986) / 14, np.log1p(seen[user]) - 3
        tags[n, : len(genres)] = genres
        latest = likes[user][: -MOVIELENS.history_length - 1 : -1]
        history[n, : len(latest)] = latest
        seen[user] += 1
        if rating >= LIKED:
            likes[user].append(item)
    held_out = _last_tenth(ids[:, 0])
    log = ClickLog(
        dense=dense,
        user=ids[:, 0],
        segment=np.array([occupations[user] for user in ids[:, 0]], dtype=np.int32),
        item=ids[:, 1],
        tags=tags,
        history=history,
        clicked=liked,
        reference=_share_of_likes(ids[:, 1], liked, ~held_out),
        reference_name=BASELINE,
    )
    return log.rows(np.flatnonzero(~held_out)), log.rows(np.flatnonzero(held_out))


def _rows(path: Path) -> list[list[str]]:
    """The tab-separated rows after the header, which says name:type for each column."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing", hint="pip install --no-deps --force-reinstall recbole") from error
    return [line.split("\t") for line in lines[1:]]


def _users(path: Path) -> tuple[dict[int, tuple[float, float]], dict[int, int]]:
    """Each user's (age in years, 1.0 for F), and each user's number of his or her occupation, from 1."""
    rows = _rows(path)
    numbers = {name: n for n, name in enumerate(sorted({row[3] for row in rows}), start=1)}
    return (
        {int(user): (float(age), float(gender == "F")) for user, age, gender, *_ in rows},
        {int(row[0]): numbers[row[3]] for row in rows},
    )


def _movies(path: Path) -> dict[int, tuple[float, list[int]]]:
    """Each movie's release year (1995 where it is not told) and the numbers of its genres, from 1."""
    rows = [(int(item), year, genres.split()) for item, _, year, genres in _rows(path)]
    numbers = {name: n for n, name in enumerate(sorted({genre for *_, genres in rows for genre in genres}), start=1)}
    return {
        item: (float(year) if year.isdigit() else 1995.0, [numbers[genre] for genre in genres[: MOVIELENS.tags_length]])
        for item, year, genres in rows
    }


def _last_tenth(user: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Marks the last tenth of each user's rows, at least one; rows are in order of time."""
    marked = np.zeros(len(user), dtype=np.bool_)
    for one in np.unique(user):
        user_rows = np.flatnonzero(user == one)
        marked[user_rows[-max(1, len(user_rows) // 10) :]] = True
    return marked


def _share_of_likes(item: NDArray[np.int32], liked: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Each row's share of likes of its movie among the known rows, drawn towards the overall share by five ratings."""
    size = int(item.max()) + 1
    likes = np.bincount(item[known], weights=liked[known], minlength=size)
    ratings = np.bincount(item[known], minlength=size)
    share: NDArray[np.float32] = ((likes + 5 * liked[known].mean()) / (ratings + 5)).astype(np.float32)
    return share[item]
