#include "exchange.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "halo.h"

namespace nequip_lammps {

namespace {

// The one variable outside of functions: torch calls an operator as a free function, which can find in no other way
// on whose behalf it is called.
thread_local Halo* current = nullptr;

at::Tensor rows_like(const at::Tensor& h, int64_t rows) {
  return at::empty({rows, h.size(1)}, h.options().device(at::kCPU));
}

// Features are on the device of the model, messages go through the memory of the host.
at::Tensor exchange(const at::Tensor& h, int64_t num_atoms) {
  if (current == nullptr) {
    TORCH_CHECK(num_atoms == h.size(0), "exchange: there are ghost atoms, but nobody to ask for their features");
    return h.clone(at::MemoryFormat::Contiguous);
  }
  TORCH_CHECK(h.dim() == 2 && h.size(0) == static_cast<int64_t>(current->num_centers()) &&
                  num_atoms == static_cast<int64_t>(current->num_rows()),
              "exchange: ", h.sizes(), " to ", num_atoms, " rows are not the atoms of this process");
  const at::Tensor rows = h.detach().to(at::kCPU).contiguous();
  at::Tensor all = rows_like(rows, num_atoms);
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "exchange", [&] {
    current->forward(rows.const_data_ptr<scalar_t>(), all.data_ptr<scalar_t>(), rows.size(1));
  });
  return all.to(h.device());
}

at::Tensor exchange_reverse(const at::Tensor& grad, int64_t num_owned) {
  if (current == nullptr) {
    TORCH_CHECK(num_owned == grad.size(0), "exchange_reverse: there are ghost atoms, but nobody who owns them");
    return grad.clone(at::MemoryFormat::Contiguous);
  }
  TORCH_CHECK(grad.dim() == 2 && grad.size(0) == static_cast<int64_t>(current->num_rows()) &&
                  num_owned == static_cast<int64_t>(current->num_centers()),
              "exchange_reverse: ", grad.sizes(), " to ", num_owned, " rows are not the atoms of this process");
  const at::Tensor all = grad.detach().to(at::kCPU).contiguous();
  at::Tensor rows = rows_like(all, num_owned);
  AT_DISPATCH_FLOATING_TYPES(all.scalar_type(), "exchange_reverse", [&] {
    current->reverse(all.const_data_ptr<scalar_t>(), rows.data_ptr<scalar_t>(), all.size(1));
  });
  return rows.to(grad.device());
}

// Python defines the same schemas where it is in the process.
TORCH_LIBRARY_FRAGMENT(nequip, m) {
  if (!c10::Dispatcher::singleton().findSchema({"nequip::exchange", ""})) {
    m.def("exchange(Tensor h, SymInt num_atoms) -> Tensor");
    m.def("exchange_reverse(Tensor grad, SymInt num_owned) -> Tensor");
  }
}
TORCH_LIBRARY_IMPL(nequip, CPU, m) {
  m.impl("exchange", &exchange);
  m.impl("exchange_reverse", &exchange_reverse);
}
TORCH_LIBRARY_IMPL(nequip, CUDA, m) {
  m.impl("exchange", &exchange);
  m.impl("exchange_reverse", &exchange_reverse);
}

}  // namespace

ExchangeThrough::ExchangeThrough(Halo& halo) { current = &halo; }
ExchangeThrough::~ExchangeThrough() { current = nullptr; }

}  // namespace nequip_lammps
