"""What the kernel refuses is told with the operation, and with what to do where the kernel lacks something."""

import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from driver.errors import KernelError
from driver.kernel.door import _explained

UNSUPPORTED = errno.errorcode[errno.EOPNOTSUPP]
LINK = "+ link fl.7 type vxlan id 7"
LACKS = "; it lacks links of that type: load the kernel module, or choose another -o backend="


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        (LINK, errno.EOPNOTSUPP, f"{LINK}: the kernel says no ({UNSUPPORTED}){LACKS}"),
        (LINK, errno.EPERM, f"{LINK}: the kernel says no (EPERM)"),
        ("+ route 10.0.0.0/26", errno.EOPNOTSUPP, f"+ route 10.0.0.0/26: the kernel says no ({UNSUPPORTED})"),
    ],
)
def test_a_kernel_without_vxlan_is_told_as_such(what: str, code: int, said: str) -> None:
    with pytest.raises(KernelError) as refused, _explained(what):
        raise NetlinkError(code, "no")
    assert str(refused.value) == said
