"""The edge daemon and its command line: reads devices and posts them. Stands on `schemas`; never imports `function`."""
