"""The recorded series and the observation's fields are the same list."""

import dataclasses

from recsplit.monitoring import names
from recsplit_controller.values.observation import Series


def test_every_recorded_series_is_a_field_of_the_observation_s() -> None:
    assert tuple(field.name for field in dataclasses.fields(Series)) == names.SERIES
