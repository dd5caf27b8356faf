"""The README's bill is the computed one."""

from tests.conftest import ROOT
from tests.terraform.costs import Habits, month, table


def test_one_house_stays_inside_the_free_quotas_even_if_every_tick_posts() -> None:
    for habits in (Habits(), Habits(moving=1)):
        bill = month(1, habits).dollars
        assert {name for name, dollars in bill.items() if dollars} == {"Data sent"}
        assert bill["Data sent"] < 0.15


def test_logging_every_poll_of_a_fleet_would_cost_as_much_as_its_writes() -> None:
    polls_logged = month(10_000, exclude_polls=False).dollars
    assert polls_logged["Logging"] > polls_logged["Firestore: writes"]
    assert month(10_000).dollars["Logging"] == 0


def test_the_readme_shows_the_table_as_computed() -> None:
    readme = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
    assert "| dollars a month |" not in readme or table() in readme
