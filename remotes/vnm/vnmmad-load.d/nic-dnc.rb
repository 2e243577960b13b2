# How OpenNebula's network drivers find the host side of a Xen guest's interface. They pick the class by the name of
# the VM_MAD and fall back to KVM's, which asks virsh; dnc gives each vif the name that oned chose (NIC/TARGET).
# Every file of vnmmad-load.d is loaded when a network driver starts.
module VNMMAD

    module VNMNetwork

        # A PV interface of a Xen guest: the name is in the xl configuration, so nothing has to be asked.
        class NicDnc < Nic

            def initialize
                super(nil)
            end

            def get_info(_vm); end

            def get_tap(vm)
                self[:tap] = self[:target] || "one-#{vm['ID']}-#{self[:nic_id]}"
                self
            end

            # Limits come from the vif's rate, set when the guest starts.
            def set_qos(_deploy_id = nil); end

        end

        %w[dnc vmm_dnc].each {|name| HYPERVISORS[name] = NicDnc }

    end

end
