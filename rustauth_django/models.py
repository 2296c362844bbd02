"""The table of sessions that outlive the server, for ``RUSTAUTH["SESSIONS"]["DATABASE"]``.

Without that setting the table stays empty, and nobody reads it.
"""

from django.db import models


class SessionRow(models.Model):
    """A session. A copy of this table signs nobody in: it has neither tokens nor signatures.

    There is no foreign key, so that the table may be in another database than the users.
    """

    #: The SHA-256 of the token, in hexadecimal.
    key = models.CharField(primary_key=True, max_length=64)
    #: The token, which can be read only with the secret of the cookies.
    sealed = models.CharField(max_length=600)
    #: The id of the session, as pages and signals name it.
    session_id = models.CharField(db_index=True, max_length=255)
    #: The user's primary key as text; empty for a visitor.
    user_id = models.CharField(db_index=True, max_length=255)
    #: RustAuth's record, without the token.
    record = models.TextField()
    #: The fields of the hash: Django's data, and the others as JSON.
    data = models.BinaryField()
    visit = models.TextField()
    #: Epoch milliseconds.
    expires_at = models.BigIntegerField(db_index=True)
    is_ended = models.BooleanField(default=False)
    #: 0 if the server has heard of the last change; otherwise another number for each change.
    mark = models.BigIntegerField(db_index=True, default=0)

    class Meta:
        default_permissions = ()
        verbose_name = "stored session"

    def __str__(self) -> str:
        return self.session_id
