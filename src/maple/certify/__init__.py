"""Is a benchmark whole and read as declared: checks of every task in every language."""

from maple.certify.certificate import (
    Certificate,
    Check,
    Deviation,
    LanguageCertificate,
    PromptForm,
    Status,
    summary_rows,
    worst_message,
)
from maple.certify.examine import certify, certify_study, without_files
from maple.certify.folder import read_certificates, write_certificate
from maple.certify.lengths import TokenCounter, load_counter
from maple.certify.page import certificate_page, index_page, write_pages

__all__ = [
    "Certificate",
    "Check",
    "Deviation",
    "LanguageCertificate",
    "PromptForm",
    "Status",
    "TokenCounter",
    "certificate_page",
    "certify",
    "certify_study",
    "index_page",
    "load_counter",
    "read_certificates",
    "summary_rows",
    "without_files",
    "worst_message",
    "write_certificate",
    "write_pages",
]
