"""What became of a message or of a pair (event, route): closed enums, so that an outcome can never carry a value.

Every message that comes in leaves as exactly one of the `received` verdicts or as an event whose pairs leave as one
of the pair verdicts each. The laws over them are checked in `pipelines.summary`.
"""

from enum import StrEnum


class Verdict(StrEnum):
    """What became of it; docs/reasons.md explains each."""

    RELEASED = "released"
    SUPPRESSED = "suppressed"
    REVIEW = "review"
    HELD = "held"
    REJECTED = "rejected"
    REPEATED = "repeated"
    UNROUTED = "unrouted"
    CONSENT = "consent"
    CONTROL = "control"
    RETRACTED = "retracted"
    RESTORED = "restored"
    ASKED_AGAIN = "asked_again"
    REVIEW_CLOSED = "review_closed"


class Reason(StrEnum):
    """Why. One closed list for summary, audit and review; docs/reasons.md explains each."""

    # released
    PERMITTED = "permitted"  # one permit grounds the event and holds to the horizon
    NO_CONSENT_NEEDED = "no_consent_needed"  # the route's basis is not an authorization, and no denial stops it
    # suppressed
    NO_CONSENT = "no_consent"  # the patient never gave a permit of any kind
    OUT_OF_SCOPE = "out_of_scope"  # permits exist, none for this purpose, recipient and action
    PERMIT_INCOMPLETE = "permit_incomplete"  # it does not say what the law of the jurisdiction wants it to say
    NOT_COVERED = "not_covered"  # the permit does not cover the time of the event, or came after the wait
    EXPIRED = "expired"  # the permit has ended by the horizon and was not renewed without a gap
    REVOKED = "revoked"  # the permit was taken back: inactive, entered in error, or replaced by a newer version
    DENIED = "denied"  # a denial is in hand that no later permit lifts
    SUPERSEDED = "superseded"  # a newer milestone decides alone for the record
    CANCELLED = "cancelled"  # the source took the milestone back (A11, A13, S15, entered-in-error …)
    CANCELLATION = "cancellation"  # the message that takes a milestone back
    REFILLED = "refilled"  # a gap that did not come to pass: something was dispensed in time
    AFTER_HORIZON = "after_horizon"  # dated after the instant of decision; held where a ledger keeps it
    SENSITIVE = "sensitive"  # marked by the policy's sensitivity.yaml (42 CFR Part 2, psychotherapy, HIV …)
    DECEASED = "deceased"  # nobody is reached out to any more
    FILTERED = "filtered"  # the route's filters take neither its service nor its place, or it states none
    NOT_ENROLLED = "not_enrolled"  # in none of the programmes that the route's filters name, when it happened
    STUDY_NOT_APPROVED = "study_not_approved"  # no row in the policy's studies, not yet approved, or closed
    ROUTE_OFF = "route_off"  # the policy's kill switch
    SHADOW = "shadow"  # decided and audited, never released
    WINDOW_OPEN = "window_open"  # held: the day of an aggregate is not over, or still open for late events
    WINDOW_CLOSED = "window_closed"  # the day of an aggregate was counted before this came
    REVIEWED = "reviewed"  # a reviewer said no
    REVIEW_EXPIRED = "review_expired"  # nobody answered by the deadline of the policy
    # review
    CONFLICTING_COPY = "conflicting_copy"  # one idempotency key, two contents
    CONSENT_UNCLEAR = "consent_unclear"  # a consent that the rules do not fully understand
    IDENTITY_CHANGED = "identity_changed"  # merge, move, link or unlink, and no consent since
    MINOR = "minor"  # not of age when it happened: somebody else may have to consent
    NO_TIME = "no_time"  # no time of day precision or better
    TOO_LATE = "too_late"  # published later than its event time plus the time to live
    DEFECT = "defect"  # a fault of ours: sealed, alarmed, never blocks the stream
    # rejected
    UNKNOWN_FORMAT = "unknown_format"
    EMPTY_FILE = "empty_file"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    MALFORMED = "malformed"
    DUPLICATE_JSON_KEY = "duplicate_json_key"
    BAD_CHARSET = "bad_charset"
    BAD_ENCODING = "bad_encoding"  # bytes that the declared charset does not allow
    BAD_DELIMITERS = "bad_delimiters"
    NO_TYPE = "no_type"
    NO_PATIENT = "no_patient"
    CONSENT_OF_NOBODY = "consent_of_nobody"  # a consent whose patient cannot be read: somebody may have refused
    WRONG_ENVIRONMENT = "wrong_environment"  # a test or training message under a production policy
    UNKNOWN_KIND = "unknown_kind"
    UNKNOWN_MODIFIER = "unknown_modifier"
    INVALID_ENVELOPE = "invalid_envelope"
    DELETION = "deletion"  # a Bundle entry that deletes a resource without saying whose it is
    INVALID_SIGNATURE = "invalid_signature"  # a reviewer's verdict that nobody signed, or somebody else
    ROLE_NOT_ALLOWED = "role_not_allowed"  # a reviewer's verdict that the policy does not let this role give
    # repeated
    SAME_MESSAGE = "same_message"
    SAME_MILESTONE = "same_milestone"
    # unrouted
    NO_ROUTE = "no_route"  # no purpose asks for this type
    NO_MILESTONE = "no_milestone"  # the type is asked for, but this status names no milestone
    # consent
    RECORDED = "recorded"
    # control
    IDENTITY = "identity"
    DEMOGRAPHICS = "demographics"
    NOTIFICATION = "notification"
    FETCH_NEEDED = "fetch_needed"  # a notification tells of an event and does not bring its resource


# What a reviewer may find to be no obstacle after all. An event without a time can be judged by no consent, and a
# defect of ours by nobody: such an item can only be refused, or mended at its source.
ALLOWABLE = frozenset(
    {Reason.CONFLICTING_COPY, Reason.CONSENT_UNCLEAR, Reason.IDENTITY_CHANGED, Reason.MINOR, Reason.TOO_LATE}
)
