"""E4: a library before all others."""

from truerun.inspection.environment.library_preload import check_preload


def test_every_preloaded_library_is_named():
    findings = check_preload({"LD_PRELOAD": "/tmp/a.so:/tmp/b.so"}, {})
    assert [finding.location.path for finding in findings] == ["/tmp/a.so", "/tmp/b.so"]
    assert all("LD_PRELOAD" in finding.message for finding in findings)


def test_the_approved_allocator_is_no_finding(reference):
    """Accept twin: jemalloc is preloaded in earnest, and its variable locked and approved."""
    known = reference.lock.environment.variables
    assert check_preload({"LD_PRELOAD": "libjemalloc.so"}, known) == ()
    assert check_preload({}, known) == ()
    assert len(check_preload({"LD_PRELOAD": "libjemalloc.so /tmp/a.so"}, known)) == 2


def test_the_systems_own_file_counts():
    (finding,) = check_preload({}, {}, preload_file="/usr/lib/hook.so\n")
    assert "/etc/ld.so.preload" in finding.message
