// The operators nequip::exchange and nequip::exchange_reverse, which message passing models call between layers.
#pragma once

namespace nequip_lammps {

class Halo;

// While this lives, the operators of this thread communicate through `halo`; a scope ends by an exception too.
class ExchangeThrough {
 public:
  explicit ExchangeThrough(Halo& halo);
  ~ExchangeThrough();
  ExchangeThrough(const ExchangeThrough&) = delete;
  ExchangeThrough& operator=(const ExchangeThrough&) = delete;
};

}  // namespace nequip_lammps
