"""What leaves the house: exports of closed lines, webhooks, journals, tax.

A *destination* is declared; a *document* says what lines become (lines, a journal, an ERP's
import), a *format* how rows become bytes, a *transport* where the bytes go. Each document and
format is one file, found by being there.
"""
