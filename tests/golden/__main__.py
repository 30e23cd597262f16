"""`python -m tests.golden`: write what preprocessing makes of the golden inputs now, with its VERSION."""

from tests.golden.sheets import write

write()
