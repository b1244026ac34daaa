#include "model.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <stdexcept>

#include "arrays.h"
#include "exchange.h"
#include "halo.h"
#include "operators.h"

namespace nequip_lammps {

namespace {

using torch::inductor::AOTIModelPackageLoader;

at::Device find_device(const Card& card, const std::string& path, int local_rank) {
  if (card.device == "cpu") return at::Device(at::kCPU);
  const auto gpus = static_cast<int>(at::getNumGPUs());
  if (gpus == 0)
    throw std::runtime_error(path + " was compiled for a GPU, and torch sees none here: compile it with --device cpu");
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank % gpus));
}

// torch's messages go on for many lines
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

template <class T>
at::Tensor view(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType type, at::Device device) {
  return at::from_blob(const_cast<T*>(values.data()), shape, at::TensorOptions(type)).to(device);
}

}  // namespace

struct Model::Loaded {
  KeptArrays arrays;  // first: it has to outlive all others
  at::Device device;
  AOTIModelPackageLoader code;
  std::vector<at::Tensor> outputs;

  // the device's index is given, because the loader takes the first GPU for all processes without it
  Loaded(const std::string& path, at::Device device_)
      : device(device_), code(path, "model", false, 1, device.is_cpu() ? -1 : device.index()) {}
};

Model::Model(const Archive& archive, const Card& card, const std::string& path, int local_rank) {
  try {
    load_operators(archive, card, path);
    loaded = std::make_unique<Loaded>(path, find_device(card, path, local_rank));
  } catch (const c10::Error& error) {
    throw std::runtime_error("cannot load " + path + " (" + first_line(error.what_without_backtrace()) +
                             "): write it again with nequip-compile");
  }
}

Model::~Model() = default;

Model::Result Model::run(const LocalGraph& graph, Halo& halo, int num_threads) {
  const auto edges = static_cast<int64_t>(graph.center.size());
  const auto atoms = static_cast<int64_t>(graph.types.size());
  const auto centers = static_cast<int64_t>(graph.num_centers());
  const at::Device device = loaded->device;
  // another pair style, or Python, may have set another number for this process
  if (at::get_num_threads() != num_threads) at::set_num_threads(num_threads);
  try {
    const ExchangeThrough through(halo);
    const KeptArrays::Scope scope(loaded->arrays);
    loaded->outputs = loaded->code.run({
        view(graph.edge_vector, {edges, 3}, at::kDouble, device),
        view(graph.types, {atoms}, at::kLong, device),
        view(graph.center, {edges}, at::kLong, device),
        view(graph.neighbor, {edges}, at::kLong, device),
        view(graph.row_ptr, {centers + 1}, at::kLong, device),
    });
  } catch (const c10::Error& error) {
    throw std::runtime_error("the model failed: " + first_line(error.what_without_backtrace()));
  }
  for (at::Tensor& output : loaded->outputs) output = output.to(at::kCPU).contiguous();
  const auto& energies = loaded->outputs.at(0);
  const auto& gradient = loaded->outputs.at(1);
  if (energies.numel() != centers || gradient.numel() != 3 * edges)
    throw std::runtime_error("the model gave arrays of other sizes than it was asked for");
  return {energies.const_data_ptr<double>(), gradient.const_data_ptr<double>()};
}

}  // namespace nequip_lammps
