"""What test_tools.py type-checks against the generated client, and runs: ``drive.py URL TOKEN``."""

import sys

from tandem_client import AuthenticatedClient
from tandem_client.api.users import change_user, create_user, deactivate_user, get_user, list_users
from tandem_client.models import PageUserOut, Problem, UserCreate, UserOut, UserUpdate


def need[T](answer: object, kind: type[T]) -> T:
    assert isinstance(answer, kind), answer
    return answer


with AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2], raise_on_unexpected_status=True) as client:
    user = need(create_user.sync(client=client, body=UserCreate(email="generated@example.com")), UserOut)
    grace = UserCreate(email="grace@example.com")
    made = need(create_user.sync(client=client, body=grace, idempotency_key="a-key-of-ours"), UserOut)
    assert need(create_user.sync(client=client, body=grace, idempotency_key="a-key-of-ours"), UserOut) == made
    again = need(create_user.sync(client=client, body=UserCreate(email=user.email)), Problem)
    assert again.type_.endswith("/api/problems/email-taken"), again
    assert need(get_user.sync(user.id, client=client), UserOut) == user
    assert user in need(list_users.sync(client=client, limit=200), PageUserOut).items
    changes = UserUpdate(display_name="Changed")
    assert need(change_user.sync(user.id, client=client, body=changes), UserOut).display_name == "Changed"
    stale = need(change_user.sync(user.id, client=client, body=changes, if_match='"0-00000000"'), Problem)
    assert stale.type_.endswith("/api/problems/precondition-failed"), stale
    assert deactivate_user.sync_detailed(user.id, client=client).status_code == 204
    assert need(get_user.sync(2**62, client=client), Problem).title == "User not found"
    print("driven", user.created_at.year)
