//! Pure decisions: what to do, given what is wanted and what is there.
