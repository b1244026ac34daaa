#include "arrays.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>

namespace nequip_lammps {

namespace {

constexpr size_t SMALL = 1 << 16;  // bytes below which there is nothing to gain

// The number of edges changes a little with every step: sizes in steps of an eighth fit the next one too.
size_t rounded(size_t bytes) {
  size_t step = SMALL / 8;
  while (16 * step <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

c10::DataPtr KeptArrays::allocate(size_t bytes) {
  if (bytes < SMALL) return c10::GetDefaultCPUAllocator()->allocate(bytes);
  const size_t wanted = rounded(bytes);
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Block> block;
  if (const auto found = kept.find(wanted); found != kept.end()) {
    block = std::move(found->second);
    kept.erase(found);
    kept_bytes -= wanted;
  } else {
    if (kept_bytes > most_used_bytes) {  // of other sizes, which seem not to come again
      kept.clear();
      kept_bytes = 0;
    }
    block.reset(new Block{c10::GetDefaultCPUAllocator()->allocate(wanted), wanted, this});
  }
  used_bytes += wanted;
  most_used_bytes = std::max(most_used_bytes, used_bytes);
  void* data = block->memory.get();
  return {data, block.release(), &KeptArrays::keep, c10::Device(c10::DeviceType::CPU)};
}

void KeptArrays::keep(void* pointer) {
  std::unique_ptr<Block> block(static_cast<Block*>(pointer));
  KeptArrays& owner = *block->owner;
  const std::lock_guard<std::mutex> lock(owner.mutex);
  const size_t bytes = block->bytes;
  owner.used_bytes -= bytes;
  owner.kept_bytes += bytes;
  owner.kept.emplace(bytes, std::move(block));
}

KeptArrays::Scope::Scope(KeptArrays& arrays) : before(c10::GetCPUAllocator()) { c10::SetCPUAllocator(&arrays, 255); }
KeptArrays::Scope::~Scope() { c10::SetCPUAllocator(before, 255); }

}  // namespace nequip_lammps
