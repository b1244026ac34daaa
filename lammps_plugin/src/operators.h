// The libraries inside an artefact: torch operators, and the kernels that they call.
#pragma once
#include "archive.h"
#include "card.h"

namespace nequip_lammps {

// Throws std::runtime_error where the libraries cannot be loaded, or do not go with those loaded before.
void load_operators(const Archive& archive, const Card& card, const std::string& path);

}  // namespace nequip_lammps
