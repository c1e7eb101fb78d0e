"""How clients name the kinds of this server."""

from typing import Final

from aggregator.api import apiservice, externalname
from apiserver.client import ResourceRef

APISERVICES: Final = ResourceRef(apiservice.GROUP, apiservice.VERSION, apiservice.PLURAL)
EXTERNALNAMES: Final = ResourceRef(externalname.GROUP, externalname.VERSION, externalname.PLURAL)
