"""A site's settings: what a PUT leaves, and what a deleted site leaves behind."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from schemas.site import Settings, SettingsPut, Site, later, settled, tombstone
from tests.schemas.strategies import EPOCH


def test_a_put_replaces_all_settings_but_a_generation_that_it_leaves_out():
    present = Settings(name="Home", stale_after_s=90, token_generation=3)
    assert settled(SettingsPut(timezone="Europe/Vienna"), present) == Settings(
        timezone="Europe/Vienna", token_generation=3
    )
    assert settled(SettingsPut(token_generation=3), present).token_generation == 3
    assert settled(SettingsPut(token_generation=4, name="Barn"), present) == Settings(name="Barn", token_generation=4)


def test_a_generation_never_falls():
    with pytest.raises(ValueError) as refused:
        settled(SettingsPut(token_generation=2), Settings(token_generation=3))
    assert str(refused.value) == "the token generation never falls; it is 3"
    with pytest.raises(ValueError, match="it is 1"):
        settled(SettingsPut(token_generation=0), Settings(token_generation=1))


def test_a_deleted_site_leaves_its_generation_raised_by_one_and_nothing_else():
    site = Site(settings=Settings(name="Home", token_generation=3), heard_at=EPOCH)
    assert tombstone(site) == Site(settings=Settings(token_generation=4), deleted=True)


def test_also_a_site_of_the_newest_generation_there_is_can_be_deleted_again_and_again():
    newest = settled(SettingsPut(token_generation=2**31 - 1), Settings())
    gone = tombstone(tombstone(Site(settings=newest)))
    assert gone.settings.token_generation == 2**31 + 1
    assert settled(SettingsPut(), gone.settings) == gone.settings


def test_of_two_times_the_later_counts_and_one_that_is_missing_does_not():
    after = EPOCH + timedelta(seconds=1)
    assert later(EPOCH, after) == after == later(after, EPOCH)
    assert later(None, EPOCH) == EPOCH == later(EPOCH, None)
    assert later(None, None) is None


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires"])
def test_a_zone_of_the_iana_is_taken(zone):
    assert Settings(timezone=zone).timezone == zone


@pytest.mark.parametrize("zone", ["Vienna", "", "../etc/passwd", "/etc/localtime", "Europe", "x" * 300, "\0"])
def test_another_zone_is_refused_by_name(zone):
    with pytest.raises(ValidationError) as refused:
        Settings(timezone=zone)
    [error] = refused.value.errors()
    assert error["msg"] == f'Value error, no IANA time zone "{zone[:60]}"; write it as "Europe/Vienna"'
