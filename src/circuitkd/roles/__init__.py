"""What single components do: roles, their validation, and what became of each of the teacher's components."""
