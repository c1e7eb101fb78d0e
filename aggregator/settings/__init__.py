"""Settings of the aggregator: defaults.ini, over it a custom.ini, over both GF_<SECTION>_<KEY> from the environment.

`model` is the typed tree with the meaning of every setting, `values` turns texts into values, `ini` reads the file
format, `load` puts the layers together, `checks` looks at what must fit together, `report` prints the result.
Is not: the place for flags of single commands, nor for anything that changes while the program runs.
"""

from aggregator.settings.load import Loaded, SettingsError, load
from aggregator.settings.model import Settings
from aggregator.settings.report import check_config

__all__ = ["Loaded", "Settings", "SettingsError", "check_config", "load"]
